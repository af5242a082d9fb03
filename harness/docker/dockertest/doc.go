// Package dockertest is a scripted Docker Engine for tests: it speaks the part of the Engine's API that package docker uses, on a unix
// socket, and runs Go functions as containers. It can be slow, refuse, and go away and come back while its containers run on.
package dockertest
