package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"padstone/internal/fault"
)

// replyBytesMax bounds an answer of the HTTP API; the longest are those with all messages of a job.
const replyBytesMax = 64 << 20

// client speaks the HTTP API. Safe for concurrent use.
type client struct {
	base string // "http://host:port", without a slash at the end
	http *http.Client
}

// newClient takes host:port or a URL.
func newClient(server string) (*client, error) {
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, configFault("server %q is neither host:port nor a URL", server)
	}
	return &client{base: strings.TrimRight(server, "/"), http: &http.Client{Timeout: 30 * time.Second}}, nil
}

// host returns the host name under which the server was reached.
func (c *client) host() string {
	u, err := url.Parse(c.base)
	if err != nil {
		return "localhost"
	}
	return u.Hostname()
}

// server asks who answers. Endpoints are as this client reaches them.
func (c *client) server(ctx context.Context) (ServerInfo, error) {
	var info ServerInfo
	if err := c.call(ctx, http.MethodGet, "/api/v1/server", nil, &info); err != nil {
		return ServerInfo{}, err
	}
	info.Endpoints = info.Endpoints.reachedAt(c.host())
	return info, nil
}

// get asks for path and decodes the JSON answer into out.
func (c *client) get(ctx context.Context, path string, out any) error {
	return c.call(ctx, http.MethodGet, path, nil, out)
}

// order sends a POST whose answer may take as long as it likes: the server does what it is asked for before it answers.
func (c *client) order(ctx context.Context, path string, in, out any) error {
	patient := &client{base: c.base, http: &http.Client{}}
	return patient.call(ctx, http.MethodPost, path, in, out)
}

// call sends one request. A server that does not answer is codeServer, one that says no codeServerReply with its own words.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if method == http.MethodPost {
		text := []byte("{}")
		if in != nil {
			var err error
			if text, err = json.Marshal(in); err != nil {
				return fmt.Errorf("request for %s: %w", path, err)
			}
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return fmt.Errorf("request for %s: %w", path, err)
	}
	request.Header.Set("Accept", "application/json")
	if method == http.MethodPost {
		// The header which a page of another origin cannot send without being asked; see docs/http-api.md.
		request.Header.Set("X-Padstone", "1")
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fault.New(fault.Environment, codeServer, "no server answers at %s: %w", c.base, err).
			WithHint("start one with `padstone serve`, or name it with --server or PADSTONE_SERVER")
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, replyBytesMax+1))
	switch {
	case err != nil:
		return fault.New(fault.Environment, codeServer, "reading the answer of %s: %w", c.base+path, err)
	case len(text) > replyBytesMax:
		return fault.New(fault.Environment, codeServerReply, "%s answers with more than %d bytes", c.base+path, replyBytesMax)
	case response.StatusCode >= 300:
		return fault.New(fault.Environment, codeServerReply, "%w", &replyError{status: response.StatusCode, text: errorText(text)})
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fault.New(fault.Environment, codeServerReply, "%s: the answer is not what a Padstone server sends: %w", c.base+path, err)
	}
	return nil
}

// replyError is a server's no.
type replyError struct {
	status int // of HTTP
	text   string
}

func (e *replyError) Error() string {
	return fmt.Sprintf("%d %s: %s", e.status, http.StatusText(e.status), e.text)
}

// errorText finds the words in an error answer: {"error": {code, message, transform, hint}}, or the text as it is.
func errorText(body []byte) string {
	var reply struct {
		Error struct {
			Code      fault.Code `json:"code"`
			Message   string     `json:"message"`
			Transform string     `json:"transform"`
			Hint      string     `json:"hint"`
		} `json:"error"`
	}
	if err := json.Unmarshal(body, &reply); err == nil && reply.Error.Code != "" {
		e := reply.Error
		return (&fault.Error{Code: e.Code, Transform: e.Transform, Msg: e.Message, Hint: e.Hint}).Error()
	}
	return strings.TrimSpace(string(body))
}

// locate finds a running server: the one that was named (flag, PADSTONE_SERVER), else the one of the data directory. ok is false
// when none was named and none runs.
func locate(ctx context.Context, named, dataDir string, getenv func(string) string) (c *client, info ServerInfo, ok bool, err error) {
	if named == "" {
		named = getenv("PADSTONE_SERVER")
	}
	if named != "" {
		if c, err = newClient(named); err != nil {
			return nil, ServerInfo{}, false, err
		}
		info, err = c.server(ctx)
		return c, info, err == nil, err
	}
	published, ok, err := readServerFile(dataDir)
	if err != nil || !ok {
		return nil, ServerInfo{}, false, err
	}
	if c, err = newClient(published.Endpoints.reachedAt("localhost").HTTP); err != nil {
		return nil, ServerInfo{}, false, err
	}
	// A server that was killed leaves its file behind, and its port may be somebody else's by now.
	info, err = c.server(ctx)
	if f := fault.Of(err); f != nil && (f.Code == codeServer || f.Code == codeServerReply) {
		return nil, ServerInfo{}, false, nil
	}
	if err == nil && info.PID != published.PID {
		return nil, ServerInfo{}, false, nil
	}
	return c, info, err == nil, err
}

// errNoServer says that nothing was named and nothing runs.
func errNoServer(dataDir string) error {
	return fault.New(fault.Environment, codeServer, "%w", errors.New("no server runs on "+dataDir+" or the default port")).
		WithHint("start one with `padstone serve`, or name it with --server or PADSTONE_SERVER")
}
