"""Bad sensors: one modality corrupted at a time, and trained models evaluated again.

``python -m harness.robust`` is the command.
"""
