// Package httpapi shows the job server to people and programs: a JSON API, Prometheus metrics and two pages of HTML.
//
// It holds no state: every answer is asked of jobserver.Server, with a time limit, so that a job that does not answer costs its own
// row and not the page. docs/http-api.md is the reference.
//
// The API can cancel jobs and has no passwords, so a browser must not be turned against it: requests are answered only under the host
// names it is served as (a page that rebinds its own name to 127.0.0.1 sends that name), and a POST needs a header that a page of
// another origin cannot send unasked. Goroutines: none of its own. Errors: *fault.Error of the job server, as JSON.
package httpapi
