package main

import (
	"fmt"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	pushed = 300
	// The first step of the back-off a group has by default.
	backOff = time.Second
)

// push holds the scenarios of push consumers: each message once, and again with a higher attempt after a listener that
// failed.
type push struct {
	clients  *clients
	producer rmq.Producer
}

func pushScenarios(clients *clients, producer rmq.Producer) []scenario {
	it := &push{clients, producer}
	return []scenario{
		{"push_consumer_takes_each_message_once", it.eachMessageOnce},
		{"push_consumers_of_a_group_share", it.consumersShare},
		{"failing_listener_gets_attempt_2", it.failing},
		{"throwing_listener_gets_attempt_2", it.throwing},
	}
}

// Half of the messages are there before the consumer is, half come while it waits.
func (p *push) eachMessageOnce() {
	topic, group := "go-push", "go-push-group"
	p.send(topic, pushed/2)
	tally := newTally()
	func() {
		defer stop(p.clients.push(topic, group, tally.consume))
		p.send(topic, pushed/2)
		tally.wait()
	}()
	p.clients.expectNothing(topic, group)
	tally.checkOnce()
}

func (p *push) consumersShare() {
	topic, group := "go-shared", "go-shared-group"
	tally := newTally()
	func() {
		one, two := p.clients.push(topic, group, tally.consume), p.clients.push(topic, group, tally.consume)
		defer stopBoth(one, two)
		p.send(topic, pushed)
		tally.wait()
	}()
	p.clients.expectNothing(topic, group)
	tally.checkOnce()
}

// stopBoth stops two consumers at once: each waits for its last long poll.
func stopBoth(one, two rmq.PushConsumer) {
	var both sync.WaitGroup
	for _, consumer := range []rmq.PushConsumer{one, two} {
		both.Add(1)
		go func() {
			defer both.Done()
			_ = consumer.GracefulStop()
		}()
	}
	both.Wait()
}

func (p *push) send(topic string, count int) {
	for i := range count {
		send(p.producer, text(topic, fmt.Sprintf("message %d", i)))
	}
}

func (p *push) failing() {
	p.failingListener("go-failing", func() rmq.ConsumerResult { return rmq.FAILURE })
}

func (p *push) throwing() {
	p.failingListener("go-throwing", func() rmq.ConsumerResult { panic("the listener of this test fails on purpose") })
}

// failingListener consumes one message, for the first time with what first does.
func (p *push) failingListener(topic string, first func() rmq.ConsumerResult) {
	group := topic + "-group"
	id := send(p.producer, text(topic, "poison at first"))
	deliveries := make(chan delivery, batch)
	func() {
		defer stop(p.clients.push(topic, group, func(view *rmq.MessageView) rmq.ConsumerResult {
			attempt := view.GetDeliveryAttempt()
			deliveries <- delivery{time.Now(), view.GetMessageId(), string(view.GetBody()), attempt}
			if attempt == 1 {
				return first()
			}
			return rmq.SUCCESS
		}))
		failed := next(deliveries, id, 1)
		repeated := next(deliveries, id, 2)
		apart := repeated.when.Sub(failed.when)
		check(apart >= backOff, "attempt 2 came after %v", apart)
	}()
	p.clients.expectNothing(topic, group)
	equal(0, len(deliveries), "further deliveries")
}

// delivery is what the listener saw, and when.
type delivery struct {
	when    time.Time
	id      string
	body    string
	attempt int32
}

// next is the next delivery, which must have this id and attempt.
func next(deliveries <-chan delivery, id string, attempt int32) delivery {
	select {
	case it := <-deliveries:
		equal(id, it.id, "message id")
		equal("poison at first", it.body, "body")
		equal(attempt, it.attempt, "delivery attempt")
		return it
	case <-time.After(arrivalMax):
		panic(fmt.Sprintf("no attempt %d within %v", attempt, arrivalMax))
	}
}

// tally counts deliveries by message id.
type tally struct {
	mutex sync.Mutex
	seen  map[string]int
	all   chan struct{}
}

func newTally() *tally {
	return &tally{seen: map[string]int{}, all: make(chan struct{}, 1)}
}

func (t *tally) consume(view *rmq.MessageView) rmq.ConsumerResult {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.seen[view.GetMessageId()]++
	if len(t.seen) == pushed && t.seen[view.GetMessageId()] == 1 {
		t.all <- struct{}{}
	}
	return rmq.SUCCESS
}

func (t *tally) wait() {
	select {
	case <-t.all:
	case <-time.After(arrivalMax):
		t.mutex.Lock()
		defer t.mutex.Unlock()
		check(false, "%d of %d messages came", len(t.seen), pushed)
	}
}

func (t *tally) checkOnce() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	equal(pushed, len(t.seen), "different messages")
	for id, times := range t.seen {
		equal(1, times, "deliveries of "+id)
	}
}
