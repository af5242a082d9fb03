// Package rpc turns errors into gRPC statuses, for the job service and the artifact services alike.
//
// It is the only place where a *fault.Error meets a status code, so that one kind of error looks the same to every client.
package rpc
