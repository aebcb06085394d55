"""One file per method.

The file's name is the method's registry name (see harness/method.py for the contract).
"""
