"""The sections of a report; each turns results into blocks of a document."""
