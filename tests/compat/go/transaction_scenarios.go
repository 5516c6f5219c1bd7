package main

import (
	"context"
	"sync/atomic"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

// transactions holds the scenarios of messages that come when their transaction is committed, by their producer or when
// it is asked.
type transactions struct {
	clients *clients
}

func transactionScenarios(clients *clients) []scenario {
	it := &transactions{clients}
	return []scenario{
		{"committed_message_comes", it.committedMessageComes},
		{"lost_commit_is_asked_for", it.lostCommitIsAskedFor},
	}
}

// begin sends a message of a new transaction; returns both, the message by its id.
func begin(producer rmq.Producer, message *rmq.Message) (rmq.Transaction, string) {
	transaction := producer.BeginTransaction()
	receipts := value(producer.SendWithTransaction(context.Background(), message, transaction))
	equal(1, len(receipts), "receipts")
	return transaction, receipts[0].MessageID
}

func (t *transactions) committedMessageComes() {
	topic := "go-commit"
	producer := t.clients.transactional(topic, func(*rmq.MessageView) rmq.TransactionResolution { return rmq.UNKNOWN })
	defer stop(producer)
	consumer := t.clients.simple(topic, "go-commit-group", "*", poll)
	defer stop(consumer)
	transaction, id := begin(producer, text(topic, "paid"))
	expectNothing(consumer)
	must(transaction.Commit())
	received := receiveOne(consumer, lease)
	equal(id, received.GetMessageId(), "message id")
	ack(consumer, received)
}

// The producer forgets to end its transaction, and remembers when it is asked.
func (t *transactions) lostCommitIsAskedFor() {
	topic := "go-lost-commit"
	var asked atomic.Value
	producer := t.clients.transactional(topic, func(about *rmq.MessageView) rmq.TransactionResolution {
		asked.Store(about.GetMessageId())
		return rmq.COMMIT
	})
	defer stop(producer)
	consumer := t.clients.simple(topic, "go-lost-commit-group", "*", poll)
	defer stop(consumer)
	_, id := begin(producer, text(topic, "paid"))
	received := receiveOne(consumer, lease)
	equal(id, received.GetMessageId(), "message id")
	equal(id, asked.Load(), "message the producer was asked about")
	ack(consumer, received)
}
