package jobserver

import (
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
)

// IsTerminal tells whether a job in this state is over.
func IsTerminal(state jobpb.JobState_Enum) bool {
	switch state {
	case jobpb.JobState_DONE, jobpb.JobState_FAILED, jobpb.JobState_CANCELLED, jobpb.JobState_DRAINED, jobpb.JobState_UPDATED:
		return true
	default:
		return false
	}
}

// mayFollow tells whether a job may go from one state to another. Steps may be left out; nothing follows a terminal state, and a job
// that is ending never runs again. RUNNING to STARTING is a restart after the server's own. Spec: beam_job_api.proto JobState, less
// UPDATING, which nothing here leads to. UPDATED is a job that was stopped with a savepoint.
func mayFollow(from, to jobpb.JobState_Enum) bool {
	if IsTerminal(from) {
		return false
	}
	switch to {
	case jobpb.JobState_STOPPED:
		return from == jobpb.JobState_UNSPECIFIED
	case jobpb.JobState_STARTING:
		return from == jobpb.JobState_STOPPED || from == jobpb.JobState_RUNNING
	case jobpb.JobState_RUNNING:
		return from == jobpb.JobState_STOPPED || from == jobpb.JobState_STARTING
	case jobpb.JobState_DRAINING:
		return from == jobpb.JobState_STOPPED || from == jobpb.JobState_STARTING || from == jobpb.JobState_RUNNING
	case jobpb.JobState_CANCELLING:
		return from != jobpb.JobState_UNSPECIFIED && from != jobpb.JobState_CANCELLING
	case jobpb.JobState_DONE, jobpb.JobState_FAILED, jobpb.JobState_CANCELLED, jobpb.JobState_DRAINED, jobpb.JobState_UPDATED:
		return from != jobpb.JobState_UNSPECIFIED
	default:
		return false
	}
}
