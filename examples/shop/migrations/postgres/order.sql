-- An order is what a customer has bought at one time, and it is paid once and sent to one address.
CREATE TABLE orders (
    id text PRIMARY KEY,
    customer_id text NOT NULL REFERENCES customers (id),
    address_id text NOT NULL REFERENCES addresses (id),
    status text NOT NULL,
    total_cents bigint NOT NULL,
    placed_at timestamptz NOT NULL
);
