import { test, expect } from "appwright";
import { id, signIn } from "../support/shop";

test("shows a changed name everywhere", async ({ device }) => {
  await signIn(device, "Ada");
  await device.getByText("Profile").tap();
  await device.getByText("Edit name").tap();
  await device.getById(id("new_name"), { exact: true }).fill("Countess Lovelace");
  await device.getByText("Save").tap();
  await expect(device.getByText("Name: Countess Lovelace")).toBeVisible();
  await device.getByText("Back to shop").tap();
  await expect(device.getByText("Hello Countess Lovelace")).toBeVisible();
});

test("signing out leads back to the start", async ({ device }) => {
  await signIn(device);
  await device.getByText("Profile").tap();
  await device.getByText("Sign out").tap();
  await expect(device.getByText("Welcome to Demo")).toBeVisible();
});
