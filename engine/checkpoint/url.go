package checkpoint

import (
	"context"
	"net/url"
	"path/filepath"
	"strings"

	"padstone/internal/fault"
)

// openBlobs opens what a URL names: the path of a directory, file:///path, or s3://bucket/prefix?endpoint=…&region=….
func openBlobs(ctx context.Context, location string) (Blobs, error) {
	if !strings.Contains(location, "://") {
		if location == "" {
			return nil, badURL(location, "is empty")
		}
		return openDir(location)
	}
	u, err := url.Parse(location)
	if err != nil {
		return nil, badURL(Redacted(location), "is no URL")
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" && u.Host != "localhost" || u.RawQuery != "" {
			return nil, badURL(location, "is not file:///path")
		}
		return openDir(u.Path)
	case "s3":
		return openS3(ctx, u)
	}
	return nil, badURL(Redacted(location), "is neither a directory nor begins with file:// or s3://")
}

func openDir(path string) (Blobs, error) {
	if !filepath.IsAbs(path) {
		return nil, badURL(path, "is not an absolute path")
	}
	return dirBlobs{root: filepath.Clean(path)}, nil
}

// badURL is the error of a location that cannot be one.
func badURL(location, why string) error {
	return fault.New(fault.Pipeline, "checkpoint-url", "the place for checkpoints %q %s", location, why).
		WithHint("give an absolute path, file:///path, or s3://bucket/prefix?endpoint=http://host:port&region=name")
}

// Redacted is a location without what may be a secret, for people.
func Redacted(location string) string {
	u, err := url.Parse(location)
	if err != nil {
		scheme, _, _ := strings.Cut(location, "://")
		return scheme + "://…"
	}
	if u.User != nil {
		return u.Redacted()
	}
	return location
}
