"""What the tests share: sounds and tables to work on, small models, servers, and ways to run the program.

Import it as `from kit.sounds import speak`; the processes that tests start can do so, too. Fixtures are in the conftest.py of the
folder whose tests need them. Nothing here is a test, and nothing outside the tests imports it.
"""
