"""sas_lib."""
