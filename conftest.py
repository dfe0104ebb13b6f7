"""For tests and doctests alike: see `hf_pipelines_tests.cost_report`."""

pytest_plugins = ["hf_pipelines_tests.cost_report"]
