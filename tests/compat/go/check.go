package main

import (
	"fmt"
	"reflect"
	"time"
)

const (
	// How much later than due a redelivery may come on a busy machine.
	lateMax = 8 * time.Second
	// Granularity of the clocks on both sides.
	earlyMax = 50 * time.Millisecond
)

// check demands what holds; a failed demand ends the scenario with a sentence.
func check(holds bool, format string, arguments ...any) {
	if !holds {
		panic(fmt.Sprintf(format, arguments...))
	}
}

func equal(wanted, found any, what string) {
	check(reflect.DeepEqual(wanted, found), "%s: wanted %v, found %v", what, wanted, found)
}

func must(err error) {
	check(err == nil, "%v", err)
}

func value[T any](it T, err error) T {
	must(err)
	return it
}

// elapsed demands that the time since start is due, hardly less and not much more.
func elapsed(start time.Time, due time.Duration, what string) {
	took := time.Since(start)
	check(took >= due-earlyMax, "%s came early, after %v", what, took)
	check(took <= due+lateMax, "%s came late, after %v", what, took)
}
