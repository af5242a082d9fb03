package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"testing"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc/status"
)

// scriptVariable makes this test binary play a script: `padstone run` starts it in place of Python.
const scriptVariable = "PADSTONE_TEST_SCRIPT"

func TestMain(m *testing.M) {
	if acts := os.Getenv(scriptVariable); acts != "" {
		os.Exit(playScript(acts, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// playScript performs acts in order, separated by spaces, and returns the exit code of the script:
//
//	NAME        submit a job and wait for its end, as the Python client does
//	leave:NAME  submit a job and go on
//	args        print the arguments and the overrides as JSON
//	exit:N      end
//	deaf        ignore SIGINT from now on
//	sleep       block until a signal
func playScript(acts string, args []string) int {
	endpoint, _ := option(args, "job_endpoint")
	conn, err := dialJobs(endpoint)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	defer conn.Close()
	client := jobpb.NewJobServiceClient(conn)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt)
	for _, act := range strings.Fields(acts) {
		verb, rest, _ := strings.Cut(act, ":")
		switch verb {
		case "args":
			_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"args": args, "overrides": os.Getenv(overridesVariable)})
		case "exit":
			var code int
			fmt.Sscan(rest, &code)
			return code
		case "deaf":
			signals = nil
		case "sleep":
			fmt.Fprintln(os.Stderr, "asleep")
			<-signals
			return 130
		case "leave":
			if _, err := submit(client, rest); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		default:
			if err := submitAndWait(client, verb); err != nil {
				fmt.Fprintf(os.Stderr, "Traceback (most recent call last):\n%v\n", err)
				return 1
			}
		}
	}
	return 0
}

func submit(client jobpb.JobServiceClient, name string) (string, error) {
	ctx := context.Background()
	prepared, err := client.Prepare(ctx, &jobpb.PrepareJobRequest{JobName: name})
	if err != nil {
		return "", fmt.Errorf("grpc.RpcError: %s", status.Convert(err).Message())
	}
	run, err := client.Run(ctx, &jobpb.RunJobRequest{PreparationId: prepared.GetPreparationId()})
	return run.GetJobId(), err
}

func submitAndWait(client jobpb.JobServiceClient, name string) error {
	id, err := submit(client, name)
	if err != nil {
		return err
	}
	stream, err := client.GetStateStream(context.Background(), &jobpb.GetJobStateRequest{JobId: id})
	if err != nil {
		return err
	}
	for {
		event, err := stream.Recv()
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "the script sees", event.GetState())
		switch event.GetState() {
		case jobpb.JobState_DONE:
			return nil
		case jobpb.JobState_DRAINED, jobpb.JobState_FAILED, jobpb.JobState_CANCELLED:
			return fmt.Errorf("RuntimeError: Pipeline %s failed in state %s: unknown error", id, event.GetState())
		}
	}
}
