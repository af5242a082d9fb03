package fnapi

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/internal/fault"
)

// Progress asks how far the bundle is. The answer carries full MonitoringInfos and is empty when the bundle has not begun or is over.
// Python answers progress and split with one thread: more than one request a second starves the splits.
//
// A bundle of which the harness lost what it wanted to say fails, see mute.
func (b *Bundle) Progress(ctx context.Context) (*fnpb.ProcessBundleProgressResponse, error) {
	asking, stop := context.WithCancelCause(ctx)
	var probing sync.WaitGroup
	defer probing.Wait()
	defer stop(nil)
	probing.Go(func() {
		if b.sess.mute(asking) {
			stop(errMute)
		}
	})
	resp, err := b.sess.call(asking, progressOf(string(b.spec.InstructionID)))
	if errors.Is(err, errMute) {
		err = bundleFailed(muteText)
		b.finish(err)
	}
	if err != nil {
		return nil, err
	}
	p := resp.GetProcessBundleProgress()
	if p == nil {
		return nil, protocol("bundle %s: the harness answered a progress request with %T", b.spec.InstructionID, resp.GetResponse())
	}
	p.MonitoringInfos, err = b.sess.infos.expand(ctx, b.sess, p.GetMonitoringInfos(), p.GetMonitoringData())
	if err != nil {
		return nil, err
	}
	return p, nil
}

func progressOf(instruction string) *fnpb.InstructionRequest {
	return &fnpb.InstructionRequest{Request: &fnpb.InstructionRequest_ProcessBundleProgress{
		ProcessBundleProgress: &fnpb.ProcessBundleProgressRequest{InstructionId: instruction},
	}}
}

// errMute ends a question for progress whose answer was lost.
var errMute = errors.New("the answer was lost")

// muteText is all that is known of why a bundle has failed whose harness lost the traceback.
const muteText = "the SDK harness has neither ended the bundle nor answered for it, and answers other questions. It loses what it cannot " +
	"encode: the message of an exception with a character that is no Unicode (a surrogate, as in the name of a file that is not " +
	"UTF-8). The traceback is in the harness's own stderr"

// pythonKnowsNot is how the Python SDK answers for a bundle that it does not know.
// Spec: python apache_beam/runners/worker/sdk_worker.py BundleProcessorCache.lookup.
const pythonKnowsNot = "Unknown process bundle id"

// mute says whether a question for progress that was sent before has lost its answer. The Python SDK makes answers of tracebacks, and
// one that is no UTF-8 raises in the thread that answers: the bundle has failed, and nobody hears of it, now or when asked. A
// second question after a while, for a bundle that does not exist, settles it: that SDK answers questions for progress one
// after another. Others may not, and are known by other words.
func (s *session) mute(ctx context.Context) bool {
	wait := time.NewTimer(s.worker.server.cfg.ProbeAfter)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wait.C:
	}
	_, err := s.call(ctx, progressOf("nothing"))
	f := fault.Of(err)
	return f != nil && f.Code == CodeRequestFailed && strings.Contains(f.Msg, pythonKnowsNot)
}

// Split asks the harness to give back a part of what is left of a data source.
type Split struct {
	Transform string // the data source
	// Fraction of the remainder to keep; 0 means: stop as soon as possible.
	Fraction float64
	// EstimatedElements is how many elements the source will have got in all; it may be too low.
	EstimatedElements int64
	// AllowedPoints are the element indices at which the source may be cut; empty means everywhere.
	AllowedPoints []int64
}

// Split asks for a split. An empty response means that there was none. A response that contradicts itself or the bundle fails the
// bundle. A harness refuses with the code CodeRequestFailed: it has split nothing if the bundle had ended, and after any other error nobody
// knows.
// Spec: beam_fn_api.proto ProcessBundleSplitResponse.
func (b *Bundle) Split(ctx context.Context, split Split) (*fnpb.ProcessBundleSplitResponse, error) {
	b.recv.Lock()
	b.recv.split = true // already: the response of the bundle may come before that of the split
	b.recv.Unlock()
	resp, err := b.sess.call(ctx, &fnpb.InstructionRequest{Request: &fnpb.InstructionRequest_ProcessBundleSplit{
		ProcessBundleSplit: &fnpb.ProcessBundleSplitRequest{
			InstructionId: string(b.spec.InstructionID),
			DesiredSplits: map[string]*fnpb.ProcessBundleSplitRequest_DesiredSplit{split.Transform: {
				FractionOfRemainder:    split.Fraction,
				AllowedSplitPoints:     split.AllowedPoints,
				EstimatedInputElements: split.EstimatedElements,
			}},
		},
	}})
	if err != nil {
		return nil, err
	}
	sr := resp.GetProcessBundleSplit()
	if sr == nil {
		return nil, protocol("bundle %s: the harness answered a split request with %T", b.spec.InstructionID, resp.GetResponse())
	}
	if err := b.checkSplit(split, sr); err != nil {
		b.Abandon(err)
		return nil, err
	}
	return sr, nil
}

// checkSplit checks what can be known here: which source was split, and that primary and residual do not overlap. The Java harness
// does not name the source. Spec: BeamFnDataReadRunner.java trySplit.
func (b *Bundle) checkSplit(split Split, sr *fnpb.ProcessBundleSplitResponse) error {
	if len(sr.GetChannelSplits()) == 0 && len(sr.GetPrimaryRoots())+len(sr.GetResidualRoots()) > 0 {
		return protocol("bundle %s: the harness returned roots without a channel split", b.spec.InstructionID)
	}
	for _, cs := range sr.GetChannelSplits() {
		last, first := cs.GetLastPrimaryElement(), cs.GetFirstResidualElement()
		switch {
		case cs.GetTransformId() != split.Transform && cs.GetTransformId() != "":
			return protocol("bundle %s: the harness split %q when asked to split %q",
				b.spec.InstructionID, cs.GetTransformId(), split.Transform)
		case last < -1 || first <= last:
			return protocol("bundle %s: the harness split between element %d and %d", b.spec.InstructionID, last, first)
		}
	}
	return nil
}

// Finalize runs the bundle's finalization callbacks, on the generation that ran it: no other has them. Call it once, after the
// bundle's outcome is durable and only if its response asked for it; until then the Python SDK keeps the bundle's DoFns from being
// used again.
func (b *Bundle) Finalize(ctx context.Context) error {
	_, err := b.sess.call(ctx, &fnpb.InstructionRequest{Request: &fnpb.InstructionRequest_FinalizeBundle{
		FinalizeBundle: &fnpb.FinalizeBundleRequest{InstructionId: string(b.spec.InstructionID)},
	}})
	return err
}
