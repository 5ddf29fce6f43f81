-- A payment is money that a customer sends for an order, and if it fails the customer tries again.
CREATE TABLE payments (
    id text PRIMARY KEY,
    order_id text NOT NULL REFERENCES orders (id),
    method text NOT NULL,
    amount_cents bigint NOT NULL,
    succeeded boolean NOT NULL,
    paid_at text NOT NULL
);
