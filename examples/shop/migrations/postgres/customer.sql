-- A customer is a person who has an account in the shop, and the shop writes to customers by email.
CREATE TABLE customers (
    id text PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL,
    newsletter boolean NOT NULL,
    created_at timestamptz NOT NULL
);
