"""Tests that the SDK switches off, or gives to its direct runner alone. The bodies are Beam's."""

import unittest

from apache_beam.testing.test_stream_it_test import TestStreamIntegrationTests
from apache_beam.transforms.deduplicate_test import DeduplicateTest
from switched_on import switched_on


class Deduplicate(unittest.TestCase):
    """Switched off because not all runners have a TestStream."""

    runner = options = None
    create_pipeline = DeduplicateTest.create_pipeline
    test_deduplication_with_event_time = switched_on(DeduplicateTest.test_deduplication_with_event_time)
    test_deduplication_with_processing_time = switched_on(DeduplicateTest.test_deduplication_with_processing_time)


class TestStreamIT(TestStreamIntegrationTests):
    """For direct runners only, by the name of the runner's class."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.runner_name = "SwitchingDirectRunner"


# Imported names would be collected as well.
del DeduplicateTest, TestStreamIntegrationTests
