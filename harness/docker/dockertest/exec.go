package dockertest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/container"
)

// execution is a program that is run in a container that runs.
type execution struct {
	args    []string
	running bool
	status  int
}

func (e *Engine) createExec(w http.ResponseWriter, r *http.Request, _ *Container) {
	var request container.ExecCreateRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	e.mu.Lock()
	e.serial++
	id := fmt.Sprintf("%064x", e.serial)
	e.execs[id] = &execution{args: request.Cmd, running: true}
	e.mu.Unlock()
	answer(w, http.StatusCreated, map[string]string{"Id": id})
}

// startExec takes the connection over, as the API's upgrade does.
func (e *Engine) startExec(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	x := e.execs[r.PathValue("id")]
	e.mu.Unlock()
	if x == nil {
		refuse(w, http.StatusNotFound, "No such exec instance")
		return
	}
	_, _ = io.Copy(io.Discard, r.Body) // else its end meets a closed connection
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	output, status := "", 126 // as of a program that is not there
	e.mu.Lock()
	run, first := e.exec, e.first
	e.mu.Unlock()
	if run != nil {
		ctx, cancel := context.WithCancel(e.life)
		defer cancel()
		go func() { // the client hangs up
			_, _ = io.Copy(io.Discard, conn)
			cancel()
		}()
		if first != "" {
			_, _ = conn.Write(frame{stream: 1, data: []byte(first)}.mux())
		}
		output, status = run(ctx, x.args)
	}
	_, _ = conn.Write(frame{stream: 2, data: []byte(output)}.mux())
	e.mu.Lock()
	x.running, x.status = false, status
	e.mu.Unlock()
}

func (e *Engine) inspectExec(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.execs[r.PathValue("id")]
	if x == nil {
		refuse(w, http.StatusNotFound, "No such exec instance")
		return
	}
	answer(w, http.StatusOK, map[string]any{"ID": r.PathValue("id"), "Running": x.running, "ExitCode": x.status})
}
