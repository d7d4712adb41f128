//go:build !unix

package web

// awaitAccepted does nothing: who waits to be accepted cannot be asked here.
func (l *listener) awaitAccepted() {}
