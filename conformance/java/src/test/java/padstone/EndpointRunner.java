package padstone;

import java.io.IOException;
import org.apache.beam.runners.portability.PortableRunner;
import org.apache.beam.sdk.Pipeline;
import org.apache.beam.sdk.PipelineResult;
import org.apache.beam.sdk.PipelineRunner;
import org.apache.beam.sdk.options.PipelineOptions;

/**
 * Beam's PortableRunner, which also waits for the job: TestPipeline looks at the counts of
 * assertions as soon as run returns. PortableRunner itself asks for the state every three seconds,
 * longer than most tests take, so the state is asked for here.
 */
public final class EndpointRunner extends PipelineRunner<PipelineResult> {
  private static final long POLL_MS = 50;
  private static final long TIMEOUT_MS = Long.getLong("jobTimeoutMs", 120_000);

  private final PortableRunner runner;

  private EndpointRunner(PortableRunner runner) {
    this.runner = runner;
  }

  /** Called by Beam, for --runner. */
  public static EndpointRunner fromOptions(PipelineOptions options) {
    return new EndpointRunner(PortableRunner.fromOptions(options));
  }

  @Override
  public PipelineResult run(Pipeline pipeline) {
    PipelineResult result = runner.run(pipeline);
    long deadline = System.currentTimeMillis() + TIMEOUT_MS;
    try {
      while (!result.getState().isTerminal()) {
        if (System.currentTimeMillis() > deadline) {
          result.cancel();
          throw new IllegalStateException("timeout: the job runs for more than " + TIMEOUT_MS + " ms");
        }
        Thread.sleep(POLL_MS);
      }
    } catch (InterruptedException | IOException e) {
      throw new IllegalStateException("while the job runs", e);
    }
    // Throws what the job failed with, and frees what the runner holds.
    PipelineResult.State state = result.waitUntilFinish();
    if (state != PipelineResult.State.DONE) {
      throw new IllegalStateException("the job ended as " + state);
    }
    return result;
  }
}
