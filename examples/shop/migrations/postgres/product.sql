-- A product is one thing that the shop sells, with a price, and the shop counts how many are left.
CREATE TABLE products (
    id text PRIMARY KEY,
    category_id text NOT NULL REFERENCES categories (id),
    name text NOT NULL,
    price_cents bigint NOT NULL,
    stock integer NOT NULL,
    tags text NOT NULL,
    created_at timestamptz NOT NULL
);
