package harness

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"padstone/internal/fault"
)

// preflightFor bounds the questions to worker pools when a job is submitted: its user waits.
const preflightFor = time.Second

// CodePool is the code of a worker pool that cannot be reached or refuses.
const CodePool = codePool

// checkProcess says whether the program is there. Whether it works is only known when it runs.
func checkProcess(t *target) error {
	command := t.process.GetCommand()
	_, err := exec.LookPath(command)
	if err == nil {
		return nil
	}
	var reason *exec.Error
	if errors.As(err, &reason) {
		err = reason.Err
	}
	return fault.New(fault.Environment, codeStart, "the command %s cannot be run on the server's machine: %w", command, err).
		WithHint("give the path of a program there, without arguments")
}

// checkExternal says whether one of the worker pools can be reached. All are asked side by side. One that listens and does not answer gets
// the benefit of the doubt: a LOOPBACK pool is in a program that may be busy.
func (m *Manager) checkExternal(ctx context.Context, t *target) error {
	ctx, cancel := context.WithTimeout(ctx, preflightFor)
	defer cancel()
	s := newSites(m, splitPools(t.external.GetEndpoint().GetUrl()), func(string) {}, func() {})
	defer s.close()
	all := s.now(ctx)
	faults := make([]error, len(all))
	var asking sync.WaitGroup
	for i, one := range all {
		asking.Go(func() {
			if err := reach(ctx, one.address); err != nil {
				faults[i] = err
			} else if err := s.healthy(ctx, one, false); status.Code(err) == codes.Unavailable { // it is something else
				faults[i] = errors.New(status.Convert(err).Message())
			}
		})
	}
	asking.Wait()
	var why []string
	for i, err := range faults {
		if err == nil {
			return nil
		}
		why = append(why, fmt.Sprintf("%s: %v", all[i].address, err))
	}
	return fault.New(fault.Environment, codePool, "the %s cannot be reached: %s", t, strings.Join(why, "; ")).
		WithHint("start the pool, or for LOOPBACK keep the submitting program running; a pool that comes up later is waited for with " +
			"--worker_pool_wait_seconds")
}
