"""The lists and protocols of CASIA-SURF."""
