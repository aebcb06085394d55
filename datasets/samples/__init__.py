"""Small synthetic copies of datasets in their true layouts; datasets/sample.py writes them."""
