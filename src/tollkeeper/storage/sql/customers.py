"""Rows of customers and their members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from tollkeeper.core.customers import Customer, Member
from tollkeeper.storage.sql.tables import customers, members


def customer_from(row: Sequence[Any]) -> Customer:
    return Customer(*row)


class SqlCustomers:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, customer: Customer) -> None:
        self._connection.execute(
            insert(customers).values(
                id=customer.id,
                name=customer.name,
                email=customer.email,
                currency=customer.currency,
                zone=customer.zone,
                created_at=customer.created_at,
            )
        )

    def get(self, customer: str) -> Customer | None:
        row = self._connection.execute(select(customers).where(customers.c.id == customer)).first()
        return customer_from(row) if row else None

    def change(self, customer: Customer) -> None:
        self._connection.execute(
            update(customers)
            .where(customers.c.id == customer.id)
            .values(name=customer.name, email=customer.email, zone=customer.zone)
        )

    def list(self, after: str | None, limit: int) -> Sequence[Customer]:
        query = select(customers).order_by(customers.c.id).limit(limit)
        if after is not None:
            query = query.where(customers.c.id > after)
        return [customer_from(row) for row in self._connection.execute(query)]


class SqlMembers:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, member: Member) -> None:
        self._connection.execute(
            insert(members).values(
                id=member.id,
                customer=member.customer,
                email=member.email,
                name=member.name,
                created_at=member.created_at,
            )
        )

    def find(self, customer: str, email: str) -> Member | None:
        query = select(members).where(members.c.customer == customer, members.c.email == email)
        row = self._connection.execute(query).first()
        return Member(*row) if row else None

    def list(self, customer: str) -> Sequence[Member]:
        query = select(members).where(members.c.customer == customer).order_by(members.c.id)
        return [Member(*row) for row in self._connection.execute(query)]

    def remove(self, customer: str, member: str) -> bool:
        query = delete(members).where(members.c.customer == customer, members.c.id == member)
        return self._connection.execute(query).rowcount > 0
