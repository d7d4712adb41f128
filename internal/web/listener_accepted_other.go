//go:build !unix

package web

// awaitAccepted does nothing: this system cannot say what waits to be accepted.
func (l *listener) awaitAccepted() {}
