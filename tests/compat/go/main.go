// Runs every scenario of the official Go SDK at once and prints `PASS name` or `FAIL name reason`.
//
// Usage: compat HOST:PORT plaintext|tls|endure=SECONDS
// Exit code: 0 when all passed, 1 otherwise, 2 when called wrongly.
// With tls, SSL_CERT_FILE names the certificates to trust: this SDK trusts every server unless told otherwise.
//
// With endure it sends and receives for so long instead, by plaintext, while proxies may die.
//
// Scenarios of the Java program are here; where this SDK tells less, they find out in another way.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"
)

// Deadline of the whole run; scenarios run side by side, so one late one does not delay the others.
const runMax = 150 * time.Second

// scenario is one promise to users of the SDK; it panics when the promise is broken.
type scenario struct {
	name string
	run  func()
}

func main() {
	if len(os.Args) != 3 {
		usage()
	}
	how, seconds, _ := strings.Cut(os.Args[2], "=")
	if how != "plaintext" && how != "tls" && how != "endure" {
		usage()
	}
	clients := newClients(os.Args[1], how == "tls")
	producer := clients.producer()
	scenarios := append(simpleScenarios(clients, producer), pushScenarios(clients, producer)...)
	scenarios = append(scenarios, liteScenarios(clients, producer)...)
	scenarios = append(scenarios, priorityScenarios(clients, producer)...)
	scenarios = append(scenarios, transactionScenarios(clients)...)
	if how == "endure" {
		scenarios = endureScenarios(clients, producer, value(time.ParseDuration(seconds+"s")))
	}
	passed := runAll(scenarios)
	stop(producer)
	// The exit also ends goroutines of a scenario that overran.
	if !passed {
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: compat HOST:PORT plaintext|tls|endure=SECONDS")
	os.Exit(2)
}

func runAll(scenarios []scenario) bool {
	deadline := time.After(runMax)
	late := false
	ended := make([]chan string, len(scenarios))
	for i, it := range scenarios {
		ended[i] = make(chan string, 1)
		go func() { ended[i] <- reason(it.run) }()
	}
	passed := true
	for i, it := range scenarios {
		var failure string
		select {
		case failure = <-ended[i]:
		default:
			if late {
				failure = fmt.Sprintf("has not ended within %v", runMax)
				break
			}
			select {
			case failure = <-ended[i]:
			case <-deadline:
				late = true
				failure = fmt.Sprintf("has not ended within %v", runMax)
			}
		}
		if failure == "" {
			fmt.Println("PASS", it.name)
		} else {
			fmt.Println("FAIL", it.name, failure)
			passed = false
		}
	}
	return passed
}

// reason is why the scenario failed, in one line and with the place that is ours, or nothing.
func reason(run func()) (failure string) {
	defer func() {
		if broken := recover(); broken != nil {
			failure = strings.ReplaceAll(fmt.Sprint(broken), "\n", " ") + ourFrame()
		}
	}()
	run()
	return ""
}

// ourFrame is the file and line of the scenario in the stack of a panic.
func ourFrame() string {
	for _, line := range strings.Split(string(debug.Stack()), "\n") {
		if strings.Contains(line, "scenarios.go:") || strings.Contains(line, "endure.go:") {
			return " at " + strings.Fields(line)[0]
		}
	}
	return ""
}
