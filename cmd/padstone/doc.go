// Command padstone runs Apache Beam pipelines: server, client and tools in one binary.
//
// It is flags and a file → Config, the wiring of the packages in data-flow order (serve.go), and the terminal's side of the HTTP
// API. It holds no policy of the engine's. Errors reach main as Go errors; main maps them to an exit code (see exit.go) and is
// the only place that calls os.Exit. Goroutines: a stack owns those of the server, a runSession those of `padstone run`; both
// wait for all of them before they return.
package main
