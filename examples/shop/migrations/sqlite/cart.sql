-- A cart holds the products that a customer wants to buy, and it is emptied when the order is placed.
CREATE TABLE carts (
    id text PRIMARY KEY,
    customer_id text NOT NULL REFERENCES customers (id),
    updated_at text NOT NULL
);
