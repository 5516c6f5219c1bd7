package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	// Between two sends.
	pace = 20 * time.Millisecond
	// Messages that a listener works on, for longer than any lease that is not renewed.
	heldMessages = 4
	hold         = 70 * time.Second
	// Until everything that was sent has come.
	drainMax = 60 * time.Second
)

// endure sends, receives and works on messages for some time, in which proxies may die: the SDK hides it, or it does not.
type endure struct {
	clients  *clients
	producer rmq.Producer
	until    time.Time
}

func endureScenarios(clients *clients, producer rmq.Producer, length time.Duration) []scenario {
	it := &endure{clients, producer, time.Now().Add(length)}
	return []scenario{
		{"sends_succeed_and_nothing_is_lost", it.nothingIsLost},
		{"held_messages_come_once", it.heldComeOnce},
	}
}

func (e *endure) nothingIsLost() {
	topic := "go-endure"
	sent, failed, over := map[string]bool{}, []string{}, make(chan bool)
	go func() {
		for time.Now().Before(e.until) {
			receipts, err := e.producer.Send(context.Background(), text(topic, "message"))
			if err != nil {
				failed = append(failed, err.Error())
			} else {
				sent[receipts[0].MessageID] = true
			}
			time.Sleep(pace)
		}
		close(over)
	}()
	consumer := e.clients.simple(topic, "go-endure-group", "*", poll)
	seen := map[string]bool{}
	for sending := true; sending || (lost(sent, seen) > 0 && time.Now().Before(e.until.Add(drainMax))); {
		receivedAndAcked(consumer, seen)
		select {
		case <-over:
			sending = false
		default:
		}
	}
	stop(consumer)
	fmt.Printf("sent %d, failed %d\n", len(sent), len(failed))
	equal([]string{}, failed, "failed sends")
	equal(0, lost(sent, seen), "lost messages")
}

// lost counts what was sent and not seen.
func lost(sent, seen map[string]bool) int {
	missing := 0
	for id := range sent {
		if !seen[id] {
			missing++
		}
	}
	return missing
}

// receivedAndAcked notes what one long poll brings. A call that fails is made again: what it lost comes when its lease ends.
func receivedAndAcked(consumer rmq.SimpleConsumer, seen map[string]bool) {
	received, err := consumer.Receive(context.Background(), batch, lease)
	if err != nil {
		time.Sleep(pace)
	}
	for _, message := range received {
		seen[message.GetMessageId()] = true
		_ = consumer.Ack(context.Background(), message)
	}
}

func (e *endure) heldComeOnce() {
	topic := "go-held"
	for i := range heldMessages {
		send(e.producer, text(topic, fmt.Sprintf("message %d", i)))
	}
	var mutex sync.Mutex
	began := time.Now()
	deliveries, done := map[string]int{}, make(chan bool, 100)
	// Not stopped: that waits for its last long poll.
	e.clients.push(topic, "go-held-group", func(view *rmq.MessageView) rmq.ConsumerResult {
		mutex.Lock()
		deliveries[view.GetMessageId()]++
		mutex.Unlock()
		fmt.Println("delivered", view.GetMessageId(), view.GetDeliveryAttempt(), time.Since(began))
		time.Sleep(hold)
		done <- true
		return rmq.SUCCESS
	})
	late := time.After(hold + drainMax)
	for range heldMessages {
		select {
		case <-done:
		case <-late:
			panic("the listener has not ended")
		}
	}
	mutex.Lock()
	defer mutex.Unlock()
	equal(heldMessages, len(deliveries), "different messages")
	for id, times := range deliveries {
		equal(1, times, "deliveries of "+id)
	}
}
