//go:build race

package broker_test

// raceDetector tells that the tests run with it, and with them the servers.
const raceDetector = true
