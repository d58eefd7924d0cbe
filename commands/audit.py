"""`sepsis-cql audit`: whether the weights of a run give away whose records they were trained on."""

from rich.markup import escape

from sepsis_cql.commands.options import Force, Run
from sepsis_cql.commands.output import Work, console


def audit(run: Run, force: Force = False) -> None:
    """Attack the weights of a run by membership inference, before they are exported; writes `audit` into the run."""
    from sepsis_cql.publishing.membership.audit import write_audit
    from sepsis_cql.publishing.membership.record import refusal
    from sepsis_cql.replay.directory import open_replay

    with Work("audit") as work:
        found = write_audit(run, force=force, report=work)
    for name, attack in found.attacks.items():
        console.print(f"  {name:<27} AUROC {escape(str(attack))}")
    why = refusal(found, open_replay(run / "replay").source.name)
    if why is None:
        outcome = "too few patients to tell" if found.strongest is None else "may be exported by this audit"
        console.print(f"[green]✓[/] audit: {outcome}")
    else:
        console.print(f"[red]✗[/] audit: {escape(why)}.")
    facts = {"out": str(run / "audit"), "refused": why, **found.model_dump(mode="json")}
    console.answer(facts, failed=why is not None)
