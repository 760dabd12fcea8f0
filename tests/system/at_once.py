"""For files whose tests wait more than they compute: with `load_tests = at_once.load_tests` those of a class run at the
same time, one class after the other. Names on the command line run one by one, as ever."""
import concurrent.futures
import unittest

AT_A_TIME = 6


class AtOnce(unittest.TestSuite):
    def run(self, result, debug=False):
        with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
            for part in pool.map(self.run_one, list(self)):
                result.testsRun += part.testsRun
                for kind in ("failures", "errors", "skipped", "expectedFailures", "unexpectedSuccesses"):
                    getattr(result, kind).extend(getattr(part, kind))
        return result

    @staticmethod
    def run_one(test):
        result = unittest.TestResult()
        test.run(result)
        return result


def load_tests(loader, classes, pattern):
    return unittest.TestSuite(AtOnce(tests) for tests in classes)
