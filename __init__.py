"""sepsis-cql: MIMIC-IV in, an audited Conservative Q-Learning sepsis policy out."""
