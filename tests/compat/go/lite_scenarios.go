package main

import (
	"fmt"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	liteTopic    = "go-lite"
	liteMessages = 5
)

// lite holds the scenario of lite topics, of a topic and for a consumer group that the test has created.
type lite struct {
	clients  *clients
	producer rmq.Producer
}

func liteScenarios(clients *clients, producer rmq.Producer) []scenario {
	it := &lite{clients, producer}
	return []scenario{{"lite_push_consumers_get_what_they_subscribed_to", it.eachItsOwn}}
}

// Each consumer gets the messages of its lite topics, in order; what it unsubscribes from goes to nobody.
func (l *lite) eachItsOwn() {
	first, second := newSeen(2*liteMessages), newSeen(2*liteMessages)
	one := l.clients.litePush(liteTopic, "go-lite-push", first.consume)
	two := l.clients.litePush(liteTopic, "go-lite-push", second.consume)
	defer stopBoth(one, two)
	for _, name := range []string{"one-0", "one-1", "nobody"} {
		must(one.SubscribeLite(name))
	}
	for _, name := range []string{"two-0", "two-1"} {
		must(two.SubscribeLite(name))
	}
	must(one.UnSubscribeLite("nobody"))
	l.send("nobody", 0)
	for number := range liteMessages {
		for _, name := range []string{"one-0", "two-0", "one-1", "two-1"} {
			l.send(name, number)
		}
	}
	first.check("one-0", "one-1")
	second.check("two-0", "two-1")
}

func (l *lite) send(name string, number int) {
	message := text(liteTopic, fmt.Sprintf("%s %d", name, number))
	message.SetLiteTopic(name)
	send(l.producer, message)
}

// seen notes what a listener saw. It never fails: this SDK repeats a failed message on its own, and goes on with the next
// one of the batch meanwhile.
type seen struct {
	sync.Mutex
	done    map[string][]string
	missing int
	all     chan struct{}
}

func newSeen(count int) *seen {
	return &seen{done: map[string][]string{}, missing: count, all: make(chan struct{})}
}

func (s *seen) consume(view *rmq.MessageView) rmq.ConsumerResult {
	s.Lock()
	defer s.Unlock()
	s.done[view.GetLiteTopic()] = append(s.done[view.GetLiteTopic()], string(view.GetBody()))
	s.missing--
	if s.missing == 0 {
		close(s.all)
	}
	return rmq.SUCCESS
}

func (s *seen) check(names ...string) {
	select {
	case <-s.all:
	case <-time.After(arrivalMax):
	}
	s.Lock()
	defer s.Unlock()
	wanted := map[string][]string{}
	for _, name := range names {
		for number := range liteMessages {
			wanted[name] = append(wanted[name], fmt.Sprintf("%s %d", name, number))
		}
	}
	equal(wanted, s.done, "messages")
}
