package jobserver

import (
	"context"

	"padstone/internal/fault"
)

// Adjustable is implemented by a Running whose settings can be changed while it runs.
type Adjustable interface {
	// Set changes settings, which it has by name: all or none of them. The value SettingDefault takes a change back. It returns what all
	// settings are then, once the change is durable: it outlives the server, and is in checkpoints.
	Set(ctx context.Context, values map[string]string) ([]SettingDescription, error)
}

// SettingDefault is the value that takes a change of a setting back: the job's option, the server's flag or the default counts again.
const SettingDefault = "default"

// SettingDescription is a setting of a job: what it is now, and where it is from.
type SettingDescription struct {
	Name  string `json:"name"`
	Value *int64 `json:"value"` // nil while there is no one number: it is left to Padstone
	// Text is what the value is called, where that is no number: THROUGHPUT_BASED, 2GiB.
	Text string `json:"text,omitempty"`
	Unit string `json:"unit"`
	From string `json:"from"` // default, server, option, or set: by hand while the job runs
	// Changeable says that it can be changed while the job runs.
	Changeable bool   `json:"changeable"`
	Note       string `json:"note,omitempty"` // what has become of it, in words
}

// Set changes settings of a running job and returns all of them. Errors: job-not-found, job-over, settings-unsupported, invalid-setting,
// setting-fixed.
func (s *Server) Set(ctx context.Context, id string, values map[string]string) ([]SettingDescription, error) {
	running, err := s.present(ctx, id)
	if err != nil {
		return nil, err
	}
	a, ok := running.(Adjustable)
	if !ok {
		return nil, fault.New(fault.Pipeline, "settings-unsupported", "what runs the jobs of this server has no settings to change")
	}
	return a.Set(ctx, values)
}
