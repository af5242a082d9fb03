// Loaded by mocha before the tests: pipelines that would run on the SDK's direct runner go to the job endpoint that run.py has put
// into BEAM_SERVICE_OVERRIDES instead. As mocha's reporter it writes what became of each test to PADSTONE_CONFORMANCE_RESULTS.
"use strict";

const fs = require("fs");
const path = require("path");
const Mocha = require(path.resolve("node_modules/mocha"));

require(path.resolve("dist/src/apache_beam")); // first: its modules import each other in a circle
const runners = path.resolve("dist/src/apache_beam/runners");
const direct = require(path.join(runners, "direct_runner"));
const { loopbackRunner } = require(path.join(runners, "runner"));
const { PortableRunner } = require(path.join(runners, "portable_runner/runner"));

let jobs = 0; // submitted by the test that runs

const submit = PortableRunner.prototype.runPipelineWithProto;
PortableRunner.prototype.runPipelineWithProto = function (...args) {
  jobs++;
  return submit.apply(this, args);
};

direct.directRunner = function (options) {
  const runner = loopbackRunner(options);
  runner.unsupportedFeatures = () => []; // the default runner asks, and takes another runner when there are any
  return runner;
};

class Reporter extends Mocha.reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    const tests = {};
    const note = (test, verdict, reason) => {
      tests[test.titlePath().join(" > ")] = { verdict, reason: reason || "", seconds: (test.duration || 0) / 1000 };
    };
    runner.on("test", (test) => {
      jobs = 0;
      // Some tests set a limit of their own, too short where two SDKs share a small machine.
      test.timeout(Math.max(test.timeout(), options.timeout));
    });
    runner.on("pass", (test) => note(test, jobs ? "passed" : "no job"));
    runner.on("fail", (test, error) => note(test, "failed", error.message));
    runner.on("pending", (test) => note(test, "skipped"));
    runner.once("end", () => fs.writeFileSync(process.env.PADSTONE_CONFORMANCE_RESULTS, JSON.stringify(tests)));
  }
}

module.exports = Reporter;
