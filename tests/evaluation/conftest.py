import pytest


@pytest.fixture(scope="session")
def icu():
    pytest.importorskip("icu_sepsis", reason="needs `pip install icu-sepsis==2.0.1`")
    from sepsis_cql.evaluation.known_truth.icu_sepsis import load_icu_sepsis

    return load_icu_sepsis(gamma=0.99, terminal_reward=15.0)
