"""Prints what junitparser makes of a JUnit file, as JSON."""
import json
import sys

from junitparser import JUnitXml, TestCase

xml = JUnitXml.fromfile(sys.argv[1])
stated = {word: int(xml._elem.get(word)) for word in ("tests", "failures", "errors", "skipped")}
cases = []
for suite in xml:
    for case in suite:
        assert isinstance(case, TestCase)
        cases.append({
            "suite": suite.name,
            "name": case.name,
            "classname": case.classname,
            "results": [type(result).__name__ for result in case.result],
            "flaky": len(case._elem.findall("flakyFailure")),
            "rerun": len(case._elem.findall("rerunFailure")),
            "system_out": case.system_out,
        })
# It counts the cases anew.
xml.update_statistics()
counted = {"tests": xml.tests, "failures": xml.failures, "errors": xml.errors, "skipped": xml.skipped}
print(json.dumps({"stated": stated, "counted": counted, "cases": cases}))
