"""Run the `sepsis-cql` command as `python -m sepsis_cql`."""

from sepsis_cql.commands.app import main

if __name__ == "__main__":
    main()
