-- An order item is one product in an order, and it keeps the price of that day even if the price changes later.
CREATE TABLE order_items (
    id text PRIMARY KEY,
    order_id text NOT NULL REFERENCES orders (id),
    product_id text NOT NULL REFERENCES products (id),
    quantity integer NOT NULL,
    price_cents bigint NOT NULL
);
