"""The commands of `sepsis-cql`, one module for each stage."""
