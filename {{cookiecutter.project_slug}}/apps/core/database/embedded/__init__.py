"""
A database engine that brings its own PostgreSQL, for development and tests on a machine that has none.

Setting DB_EMBEDDED chooses it. Deleting this folder and that setting in `config/settings/base.py` removes it.
"""
