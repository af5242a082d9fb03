package jobserver

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/internal/option"
)

const (
	// nameRunesMax bounds a job's name for people.
	nameRunesMax = 200
	// slugBytesMax bounds the readable part of a job id, which is a directory name and a label.
	slugBytesMax = 40
	idRandBytes  = 16
)

// jobName is the name for people: option job_name, else the request's, else option app_name (Go), else "job". Python's request always
// says "job" (Spec: portable_runner.py prepare), so the option goes first. Control characters are dropped, length is bounded.
func jobName(request *jobpb.PrepareJobRequest) string {
	options := request.GetPipelineOptions()
	requested := request.GetJobName()
	if requested == "job" {
		requested = ""
	}
	for _, candidate := range []string{option.Text(options, "job_name"), requested, option.Text(options, "app_name")} {
		if name := printable(candidate); name != "" {
			return name
		}
	}
	return "job"
}

func printable(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, name)
	if runes := []rune(name); len(runes) > nameRunesMax {
		name = string(runes[:nameRunesMax])
	}
	return strings.TrimSpace(name)
}

// slug turns a name into [a-z0-9-]+, safe in a path, a URL and a label.
func slug(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= slugBytesMax {
			break
		}
	}
	if s := strings.Trim(b.String(), "-"); s != "" {
		return s
	}
	return "job"
}

// randomID returns 128 random bits in hexadecimal.
func randomID() string {
	var raw [idRandBytes]byte
	rand.Read(raw[:]) //nolint:errcheck // crypto/rand.Read never fails; it ends the process instead.
	return hex.EncodeToString(raw[:])
}
