"""Options of the test suite."""


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write the golden texts of tests/golden anew instead of comparing with them")
