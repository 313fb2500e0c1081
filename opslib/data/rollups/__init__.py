"""Rollups: what was counted of past days, kept in a folder, so that a night's run costs the new day.

`update` brings them up to date with the files, `store` reads them, `frames` keeps what series counted by day.
"""
