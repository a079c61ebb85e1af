from feature_store import __version__ as __version__
