"""Backends that a third party might install: quick ones, so that a run of many recordings can be tested whole."""
