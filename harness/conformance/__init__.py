"""The checks that harness.testing runs on a method or a dataset."""
