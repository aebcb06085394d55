"""One file per method; the file's name is the method's registry name (see harness/method.py for the
contract).
"""
