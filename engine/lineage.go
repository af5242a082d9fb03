package engine

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"padstone/engine/checkpoint"
	"padstone/internal/durable"
	"padstone/internal/fault"
)

// lineageFile, in a job's directory, names this life of the job: it is made with the first checkpoint, or by the restore.
const lineageFile = "lineage.json"

// begin makes sure that the job has a lineage.
func (c *checkpoints) begin() error {
	if c.lineage.ID != "" {
		return nil
	}
	path := filepath.Join(c.job.dir, lineageFile)
	data, err := os.ReadFile(path)
	var l checkpoint.Lineage
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l = checkpoint.Lineage{ID: rand.Text(), Incarnation: 1}
		if err := writeLineage(path, l); err != nil {
			return err
		}
	case err != nil:
		return fault.New(fault.Environment, "store-read", "the job's lineage: %w", err)
	default:
		if err := json.Unmarshal(data, &l); err != nil || l.ID == "" || l.Incarnation == 0 {
			return fault.New(fault.Corruption, "store-corrupt", "the job's lineage %.200q does not read back", data)
		}
	}
	c.lineage = l
	return nil
}

func writeLineage(path string, l checkpoint.Lineage) error {
	data, err := json.Marshal(l)
	if err == nil {
		err = durable.WriteFile(path, data)
	}
	if err != nil {
		return fault.New(fault.Environment, "store-write", "the job's lineage: %w", err)
	}
	return nil
}
